"""What the generated blocks of the pages are made of: each a function without arguments that returns Markdown."""
