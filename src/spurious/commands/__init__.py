"""What the command line has beside the stages: options, errors in one line, `init`, `doctor`."""
