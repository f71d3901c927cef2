//! Files that may be compressed, as their first bytes say: gzip, xz, zstd, the
//! old frame of LZ4, or not at all.

use std::io::{self, BufRead, BufReader, Read};

use lzma_rust2::XzReader;

use super::lz4;

/// Memory that the dictionary of an xz stream may take, in KiB. Kernels use 32
/// MiB, packages at most 64.
const XZ_MEMORY_KIB: u32 = 160 << 10;

/// Reads what a file holds, at most `limit` bytes of it, and then fails.
///
/// # Errors
/// When the first bytes cannot be read, or a decoder cannot be made.
pub(super) fn reader<'a>(from: impl Read + 'a, limit: u64) -> io::Result<Box<dyn Read + 'a>> {
    let mut from = BufReader::with_capacity(128 << 10, from);
    let decoded: Box<dyn Read + 'a> = match from.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::GzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(XzReader::new_mem_limit(from, false, XZ_MEMORY_KIB))
        }
        // One frame: behind that of a kernel stands its size.
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(from)?.single_frame())
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => Box::new(lz4::Legacy::new(from)?),
        _ => Box::new(from),
    };
    Ok(Box::new(Limited {
        from: decoded,
        limit,
        left: limit,
    }))
}

/// Reads a whole file into memory; see [`reader`].
///
/// # Errors
/// As [`reader`], and whatever is damaged.
pub(super) fn read(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader(from, limit)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Fails where there is more than was allowed: what ends there would be taken for whole.
struct Limited<R> {
    from: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(out)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                let limit = self.limit;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("it unpacks to more than the {limit} bytes that are allowed"),
                ));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lzma_rust2::{CheckType, FilterType, XzOptions, XzWriter};

    use super::*;

    fn sample() -> Vec<u8> {
        // Calls with near targets, which the x86 filter changes, and a long tail.
        let code = (0..4000_u32).flat_map(|n| [&[0xe8][..], &(n * 7).to_le_bytes()].concat());
        code.chain(std::iter::repeat_n(0x90, 300_000)).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).expect("written");
        to.finish().expect("finished")
    }

    fn xz(bytes: &[u8], check: CheckType, filter: bool) -> Vec<u8> {
        let mut options = XzOptions::with_preset(1);
        options.set_check_sum_type(check);
        if filter {
            options.prepend_pre_filter(FilterType::BcjX86, 0);
        }
        let mut to = XzWriter::new(Vec::new(), options).expect("options");
        to.write_all(bytes).expect("written");
        to.finish().expect("finished")
    }

    #[test]
    fn every_form_of_kernels_and_modules_is_read() {
        let plain = sample();
        let forms = [
            plain.clone(),
            gzip(&plain),
            xz(&plain, CheckType::Crc32, true),
            xz(&plain, CheckType::Crc32, false),
            xz(&plain, CheckType::Crc64, false),
            zstd::encode_all(plain.as_slice(), 3).expect("compressed"),
            lz4::tests::legacy(&plain),
        ];
        for (number, form) in forms.iter().enumerate() {
            let got = read(form.as_slice(), plain.len() as u64);
            assert!(got.is_ok_and(|got| got == plain), "form {number}");
            let more = read(form.as_slice(), plain.len() as u64 - 1).expect_err("too long");
            assert!(
                more.to_string().contains("allowed"),
                "form {number}: {more}"
            );
        }
        // Cut off: never taken for whole. (What is not compressed has no end of its own.)
        for (number, form) in forms.iter().enumerate().skip(1) {
            let half = read(&form[..form.len() / 2], 1 << 30);
            assert!(half.is_err(), "half of form {number}");
        }
    }

    #[test]
    fn an_xz_stream_that_asks_for_gigabytes_is_refused() {
        let mut options = XzOptions::with_preset(0);
        options.lzma_options.dict_size = 1 << 20;
        let mut to = XzWriter::new(Vec::new(), options).expect("options");
        to.write_all(b"hello").expect("written");
        let mut bytes = to.finish().expect("finished");
        // Block header: size, flags, filter 0x21, one byte of properties, the dictionary's size.
        let at = 12 + 4;
        assert_eq!(bytes[at - 2], 0x21);
        bytes[at] = 40;
        let crc = crc32(&bytes[12..at + 4]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        let error = read(bytes.as_slice(), 1 << 30).expect_err("4 GiB of memory");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
