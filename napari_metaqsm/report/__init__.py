"""A reading on paper: one page, a paragraph of methods with its citations, and all of it in a folder."""
