//! Unpacks one layer, to measure it.
use hyperion_image::layer::{
    LayerStream, Limits,
    unpack::{Owners, unpack},
};
fn main() {
    let mut args = std::env::args_os().skip(1);
    let (layer, to) = (args.next().expect("layer"), args.next().expect("folder"));
    let limits = Limits::default();
    std::fs::create_dir_all(&to).expect("folder");
    let stream =
        LayerStream::new(std::fs::File::open(layer).expect("layer"), &limits).expect("stream");
    let start = std::time::Instant::now();
    println!(
        "{:?} {:?}",
        unpack(stream, to.as_ref(), Owners::Keep, &limits).expect("unpacked"),
        start.elapsed()
    );
}
