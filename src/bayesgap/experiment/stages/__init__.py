"""What the stages of the experiment compute: each module imports just what its results need."""
