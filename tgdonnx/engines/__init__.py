"""What trains a graph: one room for each runtime."""
