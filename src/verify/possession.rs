//! Whether whoever presents a passport holds the key that it is bound to.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::passport::{Proof, ProofExpect, ProofRefusal};

/// Reads a proof, judges it, and verifies its signature: the cheap before the dear, so that only a proof for this very
/// passport, peer and moment costs more than its reading.
///
/// Its key belongs to a stranger and is seen once: nothing is prepared for it, nothing remembered, and `verify_strict` of the
/// reference decides alone, one proof at a time. A key of small order verifies nothing there.
///
/// The passport must have been found authentic before, since it is what names the key; whether the proof was accepted before
/// is for whoever keeps [`Proof::replay_key`]s to say.
///
/// # Errors
/// The first refusal.
pub fn possession<'a>(proof: &'a str, expect: &ProofExpect<'_>) -> Result<Proof<'a>, ProofRefusal> {
    let proof = Proof::open(proof)?;
    proof.judge(expect)?;
    let signature = Signature::from_bytes(&proof.signature);
    let verified = VerifyingKey::from_bytes(&proof.public)
        .and_then(|key| key.verify_strict(proof.signing_input.as_bytes(), &signature));
    if verified.is_ok() { Ok(proof) } else { Err(ProofRefusal::Signature) }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey, Verifier as _};

    use super::*;
    use crate::clock::Moment;
    use crate::passport::proof::{Expected, ProofClaims, Purpose, ath, with_signature};
    use crate::passport::thumbprint;

    fn claims() -> ProofClaims {
        let purpose = Purpose::Operation { aud: "demo".into(), op: "verify".into(), nonce: "n".into() };
        ProofClaims { jti: "j".into(), iat: 1_700_000_000, ath: ath(b"passport"), purpose }
    }

    fn expect(jkt: &str) -> ProofExpect<'_> {
        let purpose = Expected::Operation { audiences: &["demo"], op: "verify", nonce: "n" };
        let now = Moment::from_unix(1_700_000_000);
        ProofExpect { now, window_s: 60, skew_s: 5, jkt, ath: ath(b"passport"), purpose }
    }

    #[test]
    fn who_holds_the_key_is_believed_and_nobody_else() {
        let (holder, thief) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let public = holder.verifying_key().to_bytes();
        let jkt = thumbprint(&public);
        let input = claims().signing_input(&public).unwrap();
        let signed_by = |key: &SigningKey| with_signature(&input, &key.sign(input.as_bytes()).to_bytes());
        let text = signed_by(&holder);
        let proof = possession(&text, &expect(&jkt)).unwrap();
        assert_eq!((&proof.claims, &proof.jkt), (&claims(), &jkt));
        assert_eq!(possession(&signed_by(&thief), &expect(&jkt)), Err(ProofRefusal::Signature));
        // The thief's own key is not the passport's.
        let own = claims().signing_input(&thief.verifying_key().to_bytes()).unwrap();
        let own = with_signature(&own, &thief.sign(own.as_bytes()).to_bytes());
        assert_eq!(possession(&own, &expect(&jkt)), Err(ProofRefusal::OtherKey));
        // What is wrong beside the signature is found before it.
        let later = ProofExpect { now: Moment::from_unix(1_700_000_066), ..expect(&jkt) };
        assert_eq!(possession(&signed_by(&thief), &later), Err(ProofRefusal::TooOld));
        assert_eq!(possession("", &expect(&jkt)), Err(ProofRefusal::NotCompact));
    }

    /// s + L is the same number modulo the order L of the group (RFC 8032 §5.1.7 demands s < L).
    #[test]
    fn a_signature_has_one_spelling() {
        const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let holder = SigningKey::from_bytes(&[1; 32]);
        let public = holder.verifying_key().to_bytes();
        let jkt = thumbprint(&public);
        let input = claims().signing_input(&public).unwrap();
        let mut signature = holder.sign(input.as_bytes()).to_bytes();
        assert!(possession(&with_signature(&input, &signature), &expect(&jkt)).is_ok());
        let order: [u8; 32] = crate::passport::hex::decode_exactly(L).unwrap();
        let mut carry = 0;
        for (byte, more) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(possession(&with_signature(&input, &signature), &expect(&jkt)), Err(ProofRefusal::Signature));
    }

    /// The neutral point as key: by the equation alone, R = 0 and s = 0 sign everything for it.
    #[test]
    fn a_key_of_small_order_proves_nothing() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let jkt = thumbprint(&neutral);
        let input = claims().signing_input(&neutral).unwrap();
        let key = VerifyingKey::from_bytes(&neutral).unwrap();
        assert!(key.verify(input.as_bytes(), &Signature::from_bytes(&signature)).is_ok());
        assert_eq!(possession(&with_signature(&input, &signature), &expect(&jkt)), Err(ProofRefusal::Signature));
        // And 32 bytes that are no point at all.
        let (none, mut sevens) = (SigningKey::from_bytes(&[3; 32]), [0; 32]);
        sevens[0] = 2;
        assert!(VerifyingKey::from_bytes(&sevens).is_err());
        let input = claims().signing_input(&sevens).unwrap();
        let text = with_signature(&input, &none.sign(input.as_bytes()).to_bytes());
        assert_eq!(possession(&text, &expect(&thumbprint(&sevens))), Err(ProofRefusal::Signature));
    }
}
