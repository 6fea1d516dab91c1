"""What the stages share: paths, inputs, outputs, schemas, identities, code."""
