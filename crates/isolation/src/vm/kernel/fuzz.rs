//! The ways in for fuzzers.

use std::fs::File;
use std::io::{self, Write as _};

use super::{compressed, image, modules, package};

/// Reads a boot image and the kernel inside.
pub fn kernel(bytes: &[u8]) {
    let file = file(bytes);
    if let Ok(Some(header)) = image::header(&file) {
        let _ = header.unpack(&file, &mut io::sink());
    }
    let _ = image::starts_by_pvh(&file);
}

/// Reads a module, packed or not, and a list of modules.
pub fn module(bytes: &[u8]) {
    if let Ok(unpacked) = compressed::read(bytes, 1 << 20) {
        let _ = modules::info(&unpacked);
        let names = modules::builtin(&String::from_utf8_lossy(&unpacked));
        assert!(names.iter().all(|name| !name.contains(['/', '.', '\0'])));
    }
}

/// Reads the files of a package.
pub fn package(bytes: &[u8]) {
    let _ = package::data(file(bytes)).and_then(|data| {
        let data = compressed::reader(data, 16 << 20)?;
        package::files(data, |_, content| {
            io::copy(content, &mut io::sink()).map(drop)
        })
    });
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("a temporary file is written");
    file
}
