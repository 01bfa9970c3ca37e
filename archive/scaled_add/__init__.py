"""`scaled_add`: 2 x + y, the smallest archive: for smoke tests, and for measuring what serving itself costs."""
