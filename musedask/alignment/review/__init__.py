"""A page to review offsets in the browser: images, decisions, and where they are kept."""
