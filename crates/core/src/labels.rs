//! Reads container labels and environment into what they declare, refusing what cannot be meant.
