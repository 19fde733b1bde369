//! What the fuzz target `input` needs of this room: a connection's input, fed without a socket.

use std::sync::Arc;

use super::input::{Input, Step};
use crate::service::shares::{Bounds, OwnBounds, Shares};
use crate::wire::WireError;

/// What came of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its body.
    Frame(Vec<u8>),
    /// It was skipped for want of memory: the id of its request.
    Skipped(u64),
}

/// What came of a stream.
#[derive(Debug)]
pub struct Arrived {
    /// In the order in which it was found.
    pub found: Vec<Found>,
    /// What ended the connection, if anything did.
    pub broken: Option<WireError>,
    /// Bytes of the budget that are still taken.
    pub held: usize,
    /// Whether a frame has begun that is not complete.
    pub partial: bool,
}

/// Lets `parts` arrive one after the other, each read as the connection reads: as much as there is room for, then every
/// frame that is complete.
///
/// # Panics
/// If there is no room for a read: the connection would wait for ever.
pub fn arrive(parts: &[&[u8]], bounds: Bounds) -> Arrived {
    let shares = Shares::new(1, Box::new(move || bounds));
    let mut arrived = Arrived { found: Vec::new(), broken: None, held: 0, partial: false };
    let Ok(place) = shares.admit(1, OwnBounds::default()) else { return arrived };
    let mut input = Input::new(Arc::new(place));
    'parts: for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let read = input.fill(|room| {
                let taken = room.len().min(rest.len());
                assert!(taken > 0, "there is no room for a read");
                let (now, later) = rest.split_at(taken);
                room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                rest = later;
                Ok(taken)
            });
            assert!(matches!(read, Ok(true)) && !input.ended(), "bytes are there");
            loop {
                match input.next() {
                    Ok(Step::Frame) => arrived.found.push(Found::Frame(input.frame().to_vec())),
                    Ok(Step::Skip { id }) => arrived.found.push(Found::Skipped(id)),
                    Ok(Step::Wait) => break,
                    Err(broken) => {
                        arrived.broken = Some(broken);
                        break 'parts;
                    }
                }
            }
            input.rest();
        }
    }
    (arrived.held, arrived.partial) = (shares.bytes(), input.partial());
    arrived
}
