"""What every figure and table shares: claims, exhibits, and the run that makes them."""
