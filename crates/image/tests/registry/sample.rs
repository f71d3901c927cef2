//! Small images made by hand.

use std::io::Write as _;
use std::path::Path;

use hyperion_image::{Digest, Store};

/// How a layer is carried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    Zstd,
}

/// An image with its blobs.
pub(crate) struct Sample {
    /// The manifest.
    pub(crate) digest: Digest,
    /// The manifest's bytes.
    pub(crate) manifest: Vec<u8>,
    /// Config and layers, in this order.
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Sample {
    /// Makes an image for linux on `architecture`, with a layer of each kind,
    /// each with one file of `size` bytes that do not compress.
    pub(crate) fn new(architecture: &str, kinds: &[Kind], size: usize) -> Self {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        let mut blobs = vec![Vec::new()];
        for (number, kind) in kinds.iter().enumerate() {
            let tar = tar(&format!("file{number}"), &noise(architecture, number, size));
            diff_ids.push(Digest::of(&tar).to_string());
            let (suffix, bytes) = match kind {
                Kind::Plain => ("", tar),
                Kind::Gzip => {
                    let mut out =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    out.write_all(&tar).expect("memory");
                    ("+gzip", out.finish().expect("memory"))
                }
                Kind::Zstd => ("+zstd", zstd::encode_all(&*tar, 1).expect("memory")),
            };
            layers.push(serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                "digest": Digest::of(&bytes).to_string(),
                "size": bytes.len(),
            }));
            blobs.push(bytes);
        }
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        blobs[0] = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&blobs[0]).to_string(),
                "size": blobs[0].len(),
            },
            "layers": layers,
        })
        .to_string()
        .into_bytes();
        Self {
            digest: Digest::of(&manifest),
            manifest,
            blobs,
        }
    }

    /// Puts the image into a store, unnamed.
    pub(crate) fn put(&self, store: &Store) {
        for blob in self.blobs.iter().chain([&self.manifest]) {
            store.put_blob(blob).expect("the store takes it");
        }
    }

    /// Writes the image as an OCI layout named `x`.
    pub(crate) fn layout(&self, dir: &Path) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("folder");
        for blob in self.blobs.iter().chain([&self.manifest]) {
            std::fs::write(blobs.join(Digest::of(blob).hex()), blob).expect("written");
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self.digest.to_string(), "size": self.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "x"},
        }]});
        std::fs::write(dir.join("index.json"), index.to_string()).expect("written");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("written");
    }

    /// The last layer: the longest-lived thing of a pull.
    pub(crate) fn layer(&self) -> &[u8] {
        self.blobs.last().expect("a config at least")
    }
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).expect("memory");
    tar.into_inner().expect("memory")
}

/// Bytes that no compressor makes smaller, the same in each run.
fn noise(architecture: &str, number: usize, size: usize) -> Vec<u8> {
    let mut state = Digest::of(format!("{architecture}{number}").as_bytes()).hex();
    let mut out = Vec::with_capacity(size + 64);
    while out.len() < size {
        out.extend_from_slice(state.as_bytes());
        state = Digest::of(state.as_bytes()).hex();
    }
    out.truncate(size);
    out
}
