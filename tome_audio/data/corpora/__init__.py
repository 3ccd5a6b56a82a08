"""One module per corpus: fetched from upstream and laid out as a manifest, or made by code."""
