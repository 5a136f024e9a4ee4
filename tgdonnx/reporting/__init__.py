"""Reports for people: tables in the terminal, files with scores, and a run as one HTML page.

``tables``; ``scorefiles``; ``page``: the page, from ``proof`` (files and what verify says), ``facts`` (what was asked for),
``filters`` and ``histograms`` (the selection), ``history`` and ``curves`` (training), ``pictures`` (outputs before and
after); ``templates/``: its HTML and CSS.

Nothing is imported here: `legible`, which all that is printed goes through, must not bring the page and its figures.
"""
