//! "Did you mean …": the nearest known name, for policy and configuration.

/// Longest name that is compared; the cost grows with the product of the lengths.
const MAX_LEN: usize = 48;

/// ` (did you mean x?)`, or nothing when no candidate is near.
pub fn hint<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = name.len().div_euclid(3).clamp(1, 3);
    candidates
        .filter(|candidate| name.len() <= MAX_LEN && candidate.len() <= MAX_LEN)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line.saturating_add(1);
        for (cell, to) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal.saturating_add(usize::from(from != to));
            diagonal = *cell;
            before = changed.min(diagonal.saturating_add(1)).min(before.saturating_add(1));
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("max_bacth", "max_batch", 2)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let keys = || ["max_batch", "max_bytes", "rps"].into_iter();
        assert_eq!(hint("max_bach", keys()), " (did you mean `max_batch`?)");
        assert_eq!(hint("colour", keys()), "");
        assert_eq!(hint(&"m".repeat(1000), keys()), "");
    }
}
