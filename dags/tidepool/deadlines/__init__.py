"""Meeting deadlines on machines that may be taken away: what is believed, what is decided, and how well that does."""
