//! How much of a batch goes into one frame.

use crate::wire::{IssueSpec, Limits, Passport};

/// Room in a frame for everything around the items of a batch.
const FRAME_RESERVE: usize = 4096;

fn room(max_frame: u32) -> usize {
    usize::try_from(max_frame).unwrap_or(usize::MAX).saturating_sub(FRAME_RESERVE)
}

/// How many of `specs` fit a frame. The reply is the larger side: each item may come back with a payload of the largest size,
/// and is then as large as the daemon counts it.
pub(super) fn issues_in_a_frame(specs: &[IssueSpec<'_>], limits: Limits) -> usize {
    let payload = usize::try_from(limits.max_msg_bytes).unwrap_or(usize::MAX);
    first_of(specs.iter().map(|spec| spec.form.issued_size(payload)), limits)
}

fn most(limits: Limits) -> usize {
    usize::try_from(limits.max_batch).unwrap_or(1).max(1)
}

/// How many of `passports` fit a request.
pub(super) fn fitting(passports: &[Passport<'_>], limits: Limits) -> usize {
    // Up to five bytes before each string, and one that tells the form.
    let size = |one: &Passport<'_>| match one {
        Passport::Envelope { alg, kid, msg, sig } => alg.len() + kid.len() + msg.len() + sig.len() + 21,
        Passport::Jws { text } => text.len() + 6,
    };
    first_of(passports.iter().map(size), limits)
}

/// How many of the first fit: at least one, so that what is too large is refused by name.
fn first_of(sizes: impl Iterator<Item = usize>, limits: Limits) -> usize {
    let (room, mut sum) = (room(limits.max_frame), 0_usize);
    let fits = sizes.take(most(limits)).take_while(|size| {
        sum = sum.saturating_add(*size);
        sum <= room
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passport::OwnedEnvelope;
    use crate::wire::{
        HEADER, ISSUED_OVERHEAD, Issued, MAX_FRAME, PassportForm, Reply, Request, ServiceOk, ServiceOp, encode_frame,
    };

    const LIMITS: Limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };

    fn passports(count: usize, bytes: usize) -> Vec<OwnedEnvelope> {
        let kid = format!("ed25519/{}/{}/v4294967295", "t".repeat(32), "p".repeat(32));
        vec![OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg: vec![b'x'; bytes], sig: vec![0; 64] }; count]
    }

    /// The size of the frame that carries these for a verdict; encoding fails where no frame does.
    fn request_of(passports: &[Passport<'_>]) -> usize {
        let op = ServiceOp::VerifyBatch {
            want: crate::wire::Want { aud: Some("demo"), scopes: vec!["read"], ..crate::wire::Want::default() },
            items: passports.to_vec(),
        };
        let mut frame = Vec::new();
        encode_frame(&Request { id: u64::MAX, corr_id: [255; 16], op }, &mut frame).unwrap();
        frame.len()
    }

    #[test]
    fn a_batch_to_verify_is_split_by_bytes_and_by_items() {
        let large = passports(512, 4096);
        let large: Vec<Passport<'_>> = large.iter().map(Into::into).collect();
        let part = fitting(&large, LIMITS);
        let frame = request_of(&large[..part]);
        assert!(frame > HEADER + MAX_FRAME - FRAME_RESERVE - 2 * 4096, "{part} take {frame} bytes: it is not full");
        let fits = |count, bytes| {
            let all = passports(count, bytes);
            fitting(&all.iter().map(Into::into).collect::<Vec<_>>(), LIMITS)
        };
        assert_eq!(fits(600, 100), 512, "max_batch");
        assert_eq!(fits(2, 100), 2);
        assert_eq!(fits(2, 2 << 20), 1, "the daemon says what is too large");
        // JWS, and both kinds in one batch.
        let text = "x".repeat(6000);
        let mixed: Vec<_> = large.iter().flat_map(|one| [one.clone(), Passport::Jws { text: &text }]).collect();
        let part = fitting(&mixed, LIMITS);
        let frame = request_of(&mixed[..part]);
        assert!((HEADER + MAX_FRAME - FRAME_RESERVE - 2 * 6000..=HEADER + MAX_FRAME).contains(&frame), "{frame}");
        let frame_of_64k = Limits { max_frame: 64 << 10, ..LIMITS };
        assert!(request_of(&large[..fitting(&large, frame_of_64k)]) <= HEADER + (64 << 10));
    }

    fn issues(form: PassportForm, limits: Limits) -> usize {
        issues_in_a_frame(&vec![IssueSpec { form, ..IssueSpec::default() }; 600], limits)
    }

    #[test]
    fn a_batch_to_issue_is_split_so_that_the_largest_reply_fits_a_frame() {
        for (form, slack) in [(PassportForm::Envelope, ISSUED_OVERHEAD), (PassportForm::Jws, 340)] {
            let part = issues(form, LIMITS);
            let largest = passports(part, 4096).into_iter().map(|one| {
                Ok(match form {
                    PassportForm::Envelope => Issued::Envelope { kid: one.kid, msg: one.msg, sig: [0; 64] },
                    PassportForm::Jws => Issued::Jws { text: "x".repeat(227 + 1 + 5462 + 1 + 86) },
                })
            });
            let mut frame = Vec::new();
            encode_frame(&Reply { id: u64::MAX, result: Ok(ServiceOk::IssuedBatch(largest.collect())) }, &mut frame)
                .unwrap();
            assert!(frame.len() > HEADER + MAX_FRAME - FRAME_RESERVE - part * slack - 6000, "{part} waste a frame");
        }
        for form in [PassportForm::Envelope, PassportForm::Jws] {
            assert_eq!(issues(form, Limits { max_msg_bytes: 256, ..LIMITS }), 512, "max_batch");
            assert_eq!(issues(form, Limits { max_msg_bytes: u32::MAX, ..LIMITS }), 1);
            assert_eq!(issues(form, Limits { max_batch: 0, ..LIMITS }), 1, "a daemon's mistake stops no progress");
        }
    }
}
