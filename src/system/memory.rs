//! The heap of a process of which 48 run beside each other: one arena for the few threads, and what reading the configuration
//! and logging people in have freed goes back to the kernel instead of lying about (`man 3 mallopt`, `man 3 malloc_trim`). With
//! another C library than glibc this does nothing.
#![allow(unsafe_code)]

/// Keeps glibc from giving each thread a heap of its own, which would outlive it: ours live for one file write. To be called before
/// there are threads.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two integers and touches nothing but the allocator's own settings.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// Gives the pages of which nothing is used back to the kernel: some microseconds a page, so for moments when much has been freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; the allocator gives up pages that hold no allocation, under its own lock.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
