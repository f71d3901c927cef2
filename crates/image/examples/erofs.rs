//! Makes an EROFS file of layers, to measure it.
use hyperion_image::layer::{LayerStream, Limits, erofs::Builder};
fn main() {
    let mut args = std::env::args_os().skip(1);
    let out = args.next().expect("output");
    let limits = Limits::default();
    let start = std::time::Instant::now();
    let mut builder =
        Builder::new(std::fs::File::create(out).expect("made"), &limits).expect("started");
    for layer in args {
        let stream =
            LayerStream::new(std::fs::File::open(layer).expect("layer"), &limits).expect("stream");
        println!("{:?}", builder.add(stream).expect("added"));
    }
    builder.finish([1; 16]).expect("finished");
    println!("{:?}", start.elapsed());
}
