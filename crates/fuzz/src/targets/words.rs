//! Words of the command line and of files that users write.

use std::fmt::Display;
use std::str::FromStr;

use hyperion_image::registry::{Platform, Registries};
use hyperion_image::{Digest, ImageReference};
use hyperion_model::mount::Mount;
use hyperion_model::units::parse_duration;
use hyperion_model::{Binding, Bytes, Cores, CpuSet, JobId, Name, Rlimit};

use super::texts;
use crate::Target;

pub(super) const REFERENCE: Target = Target {
    name: "reference",
    about: "names of images, digests and platforms, which are read again as they are written",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(reference) = text.parse::<ImageReference>() {
            assert_eq!(Ok(&reference), reference.to_string().parse().as_ref());
            assert_eq!(Ok(&reference), reference.familiar().parse().as_ref());
            let safe = |part: &str| !matches!(part, "" | "." | "..");
            assert!(reference.repository().split('/').all(safe));
            let _ = (reference.target(), reference.digest(), reference.tag());
        }
        there_and_back::<Digest>(&text);
        there_and_back::<Platform>(&text);
    },
    seeds: || {
        texts(&[
            "debian",
            "docker.io/library/debian:bookworm-slim",
            "localhost:5000/a/b__c.d--e@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "[::1]:5000/x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "linux/arm64/v8",
        ])
    },
    words: &[
        "/",
        ":",
        "@sha256:",
        "..",
        "__",
        "localhost",
        "docker.io/",
        "library/",
        "[::1]",
    ],
};

pub(super) const REGISTRIES: Target = Target {
    name: "registries",
    about: "the settings of registries in TOML",
    run: |bytes| {
        let _ = toml::from_str::<Registries>(&String::from_utf8_lossy(bytes));
    },
    seeds: || {
        texts(&[
            "[\"docker.io\"]\nmirrors = [\"m.example\", \"c:5000/hub\"]\n[\"c:5000\"]\ninsecure = true\n",
            "[a]\nca = \"/etc/ssl/x.pem\"\n",
        ])
    },
    words: &[
        "mirrors", "insecure", "ca", "[\"", "\"]", " = ", "true", "\\u0000",
    ],
};

pub(super) const WORDS: Target = Target {
    name: "words",
    about: "sizes, times, sets of processors, mounts, limits, names",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        there_and_back::<CpuSet>(&text);
        there_and_back::<JobId>(&text);
        there_and_back::<Name>(&text);
        let _ = (text.parse::<Bytes>(), text.parse::<Cores>());
        let _ = (text.parse::<Rlimit>(), text.parse::<Binding>());
        let _ = parse_duration(&text);
        let _ = (Mount::parse_volume(&text), Mount::parse_mount(&text));
        let _ = Mount::parse_tmpfs(&text);
    },
    seeds: || {
        texts(&[
            "4GiB",
            "1.5",
            "2h30m",
            "0-3,8,10-11",
            "/a:/b:ro,rslave",
            "nofile=1024:4096",
            "core",
            "type=bind,source=/a,target=/b,readonly",
            "type=tmpfs,target=/t,size=1g",
            "/tmp:size=64m,mode=1777",
        ])
    },
    words: &[
        "KiB",
        "g",
        "h",
        "ms",
        "-",
        ",",
        ":",
        "=",
        "unlimited",
        "4294967295",
        "source=",
        "size=",
    ],
};

/// What is understood is written so that it is understood again, as the same.
fn there_and_back<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>().ok();
        assert_eq!(Some(value), again);
    }
}
