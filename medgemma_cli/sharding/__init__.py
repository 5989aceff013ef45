"""Array jobs: one folder's documents split over many runs, and joined again."""
