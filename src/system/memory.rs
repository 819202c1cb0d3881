//! The memory of a process of which 48 run beside each other: one heap for the few threads, and what reading the configuration and logins
//! have used of the heap and of the stack is returned to the kernel (`man 3 mallopt`, `man 3 malloc_trim`, `man 2 madvise`). With
//! another C library than glibc the heap stays as it is.
#![allow(unsafe_code)]

/// Bytes below the current frame that stay: those of the functions called here, and the red zone of 128.
const STACK_KEPT_BYTES: usize = 4 << 10;
/// Bytes of the stack that are returned. Below a stack the kernel keeps 1 MiB free of other mappings (`stack_guard_gap`).
const STACK_RETURNED_BYTES: usize = 512 << 10;

/// Keeps glibc from giving each thread a heap of its own, which would outlive it: threads here run for one file write. Call it before
/// there are threads.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two integers and changes only the allocator's settings.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// `man 3 pow`, which only tokio's multi-threaded scheduler calls, and no program here starts that. The C library has it in a second shared
/// library, libm, with 12 KiB of written pages in each process.
// SAFETY: it has the signature and the result of the function of that name, which no other part of a program defines.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

/// Returns unused pages to the kernel: some microseconds a page, so it is for moments when much was freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; the allocator returns pages that hold no allocation, under its own lock.
    let _ = unsafe { nix::libc::malloc_trim(0) };
    give_back_stack();
}

/// Returns the pages of the main thread's stack that are below the current frame. Other threads are short-lived here.
#[inline(never)]
fn give_back_stack() {
    if nix::unistd::gettid() != nix::unistd::getpid() {
        return;
    }
    // SAFETY: reads a constant of the system.
    let page = unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) };
    let Some(page) = usize::try_from(page).ok().filter(|page| page.is_power_of_two()) else { return };
    let here = 0_u8;
    let end = (std::ptr::from_ref(&here) as usize - STACK_KEPT_BYTES) & !(page - 1);
    let begin = (end - STACK_RETURNED_BYTES) as *mut std::ffi::c_void;
    // SAFETY: no function that has not returned has its frame there, since this one's is above and is never part of another's; pages that
    // are needed again are filled with zeros. For unmapped pages the kernel returns ENOMEM, after it has freed the rest.
    let _ = unsafe { nix::libc::madvise(begin, STACK_RETURNED_BYTES, nix::libc::MADV_DONTNEED) };
}
