"""A simulated school day: batches that live, and services that speak about them."""
