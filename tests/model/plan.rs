//! What is asked, in order, out of a seed: the same seed gives the same steps. Whose turn it is when is left to chance.

/// A step. Passports are named by the step that asked for them, and retry keys by the step that made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Issue(Wish),
    Verify {
        of: usize,
    },
    Introspect {
        of: usize,
    },
    /// With another signature.
    Forge {
        of: usize,
    },
    /// With a scope that no passport has.
    Elsewhere {
        of: usize,
    },
    Batch {
        of: Vec<usize>,
    },
    /// For a ticket, which is the passport of this step.
    Exchange {
        of: usize,
    },
    /// With a new retry key.
    With {
        of: usize,
    },
    /// What that step asked, under its key.
    Again {
        step: usize,
    },
    /// Another passport under the key of that step.
    Cross {
        step: usize,
        of: usize,
    },
    Revoke {
        of: usize,
        by_admin: bool,
    },
    RevokeSubject {
        sub: u32,
    },
    BumpEpoch,
    /// A ceremony, and the new key staged and activated.
    Rotate,
    /// The key so many before the newest.
    Compromise {
        back: u32,
    },
    Pause,
    Resume,
    /// The front, by SIGKILL; and another is started.
    Kill,
}

/// What a passport is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) sub: u32,
    pub(crate) jws: bool,
    /// It ends within a few seconds.
    pub(crate) short: bool,
    pub(crate) takes: Takes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Uses(u32),
    Nonce(u32),
}

/// Steps among which each of the rare ones has its place.
const BLOCK: usize = 1000;
const SUBJECTS: u64 = 40;
/// A passport is looked at for so many steps, mostly.
const YOUNG: usize = 200;
/// Further back a step has an answer by now, mostly.
const ANSWERED: usize = 20;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn up_to(&mut self, count: usize) -> usize {
        usize::try_from(self.roll(u64::try_from(count).unwrap())).unwrap()
    }

    fn small(&mut self, sides: u32) -> u32 {
        u32::try_from(self.roll(sides.into())).unwrap()
    }
}

/// So many steps.
pub(crate) fn plan(seed: u64, count: usize) -> Vec<Step> {
    let (mut dice, mut steps) = (Dice(seed), Vec::with_capacity(count));
    let (mut issued, mut keyed) = (Vec::new(), Vec::new());
    let mut rare = Vec::new();
    while steps.len() < count {
        let at = steps.len();
        if at % BLOCK == 0 {
            rare = rare_ones(&mut dice, at);
        }
        let due = rare.iter().position(|(when, _)| *when == at);
        let step = match due {
            Some(due) => rare.swap_remove(due).1,
            None => common(&mut dice, &issued, &keyed, at),
        };
        match step {
            Step::Issue(_) | Step::Exchange { .. } => issued.push(at),
            Step::With { .. } => keyed.push(at),
            _ => {}
        }
        steps.push(step);
    }
    steps
}

/// The rare ones of a block: each somewhere in it, what ends another after it.
fn rare_ones(dice: &mut Dice, block: usize) -> Vec<(usize, Step)> {
    let mut rare: Vec<(usize, Step)> = Vec::new();
    let mut put = |at: usize, step| {
        let free = (at..).find(|at| rare.iter().all(|(taken, _)| taken != at)).unwrap();
        rare.push((free, step));
        free
    };
    let anywhere = |dice: &mut Dice| block + 50 + dice.up_to(BLOCK - 200);
    put(anywhere(dice), Step::Kill);
    put(anywhere(dice), Step::Rotate);
    put(anywhere(dice), Step::RevokeSubject { sub: dice.small(40) });
    for _ in 0..2 {
        let at = put(anywhere(dice), Step::Pause);
        put(at + 5 + dice.up_to(30), Step::Resume);
    }
    if dice.roll(2) == 0 {
        put(anywhere(dice), Step::BumpEpoch);
    }
    if dice.roll(2) == 0 {
        let at = put(anywhere(dice), Step::Compromise { back: dice.small(3) });
        put(at + 1, Step::Rotate);
    }
    rare
}

fn common(dice: &mut Dice, issued: &[usize], keyed: &[usize], at: usize) -> Step {
    let Some(of) = pick(dice, issued, at) else { return Step::Issue(wish(dice, at)) };
    match dice.roll(1000) {
        0..260 => Step::Issue(wish(dice, at)),
        260..450 => Step::Verify { of },
        450..520 => Step::Exchange { of },
        520..580 => Step::Introspect { of },
        580..630 => Step::Forge { of },
        630..660 => Step::Elsewhere { of },
        660..740 => {
            let more = 1 + dice.up_to(7);
            let of = std::iter::once(of).chain((0..more).filter_map(|_| pick(dice, issued, at))).collect();
            Step::Batch { of }
        }
        740..860 => Step::With { of },
        860..925 => match pick(dice, keyed, at) {
            Some(step) => Step::Again { step },
            None => Step::With { of },
        },
        925..930 => match pick(dice, keyed, at) {
            Some(step) => Step::Cross { step, of },
            None => Step::With { of },
        },
        930..994 => Step::Revoke { of, by_admin: dice.roll(3) == 0 },
        _ => Step::RevokeSubject { sub: dice.small(40) },
    }
}

/// One of them: most often of the same few as others pick, so that they meet.
fn pick(dice: &mut Dice, all: &[usize], at: usize) -> Option<usize> {
    let answered = all.partition_point(|one| one + ANSWERED <= at);
    let young = all.partition_point(|one| one + YOUNG <= at);
    let from = match dice.roll(10) {
        0..5 => answered.saturating_sub(4),
        5..9 => young,
        _ => 0,
    };
    let some = all.get(from..answered).filter(|some| !some.is_empty())?;
    Some(some[dice.up_to(some.len())])
}

fn wish(dice: &mut Dice, at: usize) -> Wish {
    let takes = match dice.roll(10) {
        0..4 => Takes::Nothing,
        4..8 => Takes::Uses([1, 2, 3, 10][dice.up_to(4)]),
        // Some have one nonce.
        _ => Takes::Nonce(u32::try_from(at / 50).unwrap() * 10 + dice.small(10)),
    };
    let sub = u32::try_from(dice.roll(SUBJECTS)).unwrap();
    Wish { sub, jws: dice.roll(2) == 0, short: dice.roll(20) == 0, takes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_steps_and_all_kinds_of_them() {
        let (one, other) = (plan(7, 4000), plan(7, 4000));
        assert!(one == other && one != plan(8, 4000));
        assert_eq!(one[..1000], plan(7, 1000));
        let mut kinds = std::collections::BTreeMap::<String, u32>::new();
        for (at, step) in one.iter().enumerate() {
            let kind = format!("{step:?}");
            *kinds.entry(kind.split([' ', '(']).next().unwrap().to_owned()).or_default() += 1;
            // Whoever waits for a step waits for one before it.
            let issued = |of: &usize| *of < at && matches!(one[*of], Step::Issue(_) | Step::Exchange { .. });
            let known = match step {
                Step::Batch { of } => of.iter().all(issued),
                Step::Again { step } => *step < at && matches!(one[*step], Step::With { .. }),
                Step::Cross { step, of } => *step < at && issued(of),
                Step::Verify { of } | Step::With { of } | Step::Forge { of } | Step::Revoke { of, .. } => issued(of),
                Step::Exchange { of } => issued(of),
                _ => true,
            };
            assert!(known, "{step:?} at {at}");
        }
        assert_eq!(kinds.len(), 18, "{kinds:?}");
        assert_eq!((kinds["Kill"], kinds["Pause"], kinds["Resume"]), (4, 8, 8), "{kinds:?}");
    }
}
