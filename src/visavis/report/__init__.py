"""The report: figures, sentences, and the page that holds them."""
