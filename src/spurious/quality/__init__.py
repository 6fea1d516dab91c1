"""How good posteriors are on maps whose true parameters are known."""
