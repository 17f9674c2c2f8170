"""Exposure images -> offsets with errors and grades, and a page to review them."""
