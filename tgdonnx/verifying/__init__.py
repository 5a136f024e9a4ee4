"""What of a tuned file may differ from the vendor's, worked out anew from his, and the proof that nothing else does."""
