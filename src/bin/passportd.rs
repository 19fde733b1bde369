//! The daemon. Everything is in the library.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: a PIN, a key or a secret that some library has copied does not stay behind (DESIGN section 8).
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    passportd::boot::main()
}
