"""One self-contained HTML file per scored run: the score, and what was said when, question by question."""
