"""Known densities of images given the class, and how to fit them."""
