"""The dial: tuned models between the values that training started from and those that it came to.

``formula``: what a number becomes; ``endpoints``: both ends of every tensor that trained, and what is written between them;
``curve``: how the network does in between, evaluated; ``choosing``: which blend to take; ``blend``: what the command does.
"""
