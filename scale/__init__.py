"""More than one engine: bulk scoring, serving on Ray, and how many machines a traffic needs."""
