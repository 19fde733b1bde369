//! What the fuzz target `config` needs of this room: the signer's bounds from text.

use super::SignerBounds;
use super::bounds;

/// Reads the signer's bounds.
///
/// # Errors
/// The offset in the text and what is wrong there.
pub fn bounds(text: &str) -> Result<SignerBounds, (usize, String)> {
    bounds::parse(text)
}
