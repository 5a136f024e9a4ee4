"""The vendor's file and the tuned one on the same data, case by case: what a page shows, a card records, and criteria judge.

``running`` runs the files; ``found`` is what one of them makes of an output; ``evaluation`` runs both over a data set;
``judging`` holds the outcome against criteria that were fixed before the run.
"""
