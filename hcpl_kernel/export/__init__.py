"""Writers over one stream of fused fields: each makes one file, and all of them read the stream once."""
