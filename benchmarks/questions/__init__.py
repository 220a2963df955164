"""Which questions the knowledge check of a bundle accepts and refuses, see docs/questions.md."""
