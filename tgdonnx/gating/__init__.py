"""Gate: the vendor's network and a tuned one in one file that answers as either; a detector fitted on new inputs may choose."""
