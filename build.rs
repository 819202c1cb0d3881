//! Links gcc's unwinder (`libgcc_eh.a`, part of every gcc) into the programs. As a shared library it has 8 to 12 KiB of written pages in
//! each process, and there are 96 with 48 ports that have dialers.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu") {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
