// What marks code that errs on purpose. The library's own tests include this file, and the test of the programs does.

/// Each function that errs on purpose keeps this text in the program that it is part of.
pub(crate) const FAULT: &str = "errs on purpose: in tests only (decision 0033)";

/// Whether such a function is part of the program `bytes`.
pub(crate) fn has_fault(bytes: &[u8]) -> bool {
    let (text, first) = (FAULT.as_bytes(), FAULT.as_bytes()[0]);
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| &bytes[at..]).any(|rest| rest.starts_with(text))
}
