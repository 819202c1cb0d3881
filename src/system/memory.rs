//! The heap of a process of which 48 run beside each other: one arena for the few threads, and memory that was freed after reading the
//! configuration and after logins is returned to the kernel (`man 3 mallopt`, `man 3 malloc_trim`). With
//! another C library than glibc this does nothing.
#![allow(unsafe_code)]

/// Keeps glibc from giving each thread a heap of its own, which would outlive it: threads here run for one file write. Call it before
/// there are threads.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two integers and changes only the allocator's settings.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// Returns unused pages to the kernel: some microseconds a page, so it is for moments when much was freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; the allocator gives up pages that hold no allocation, under its own lock.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
