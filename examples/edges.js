// Finds edges in a picture: the Sobel filter, then a threshold.
//
//     fog run edges.js -- 128 < picture.pgm > edges.pgm
//
// Reads and writes binary PGM (P5, 8 bits). Without a threshold the strength of each edge is kept.

function readAll(file) {
    let bytes = new Uint8Array(1 << 16), size = 0;
    for (let got; (got = file.read(bytes, size, bytes.length - size)) > 0; size += got) {
        if (size + got === bytes.length) {
            const more = new Uint8Array(2 * bytes.length);
            more.set(bytes);
            bytes = more;
        }
    }
    return bytes.subarray(0, size);
}

// The numbers in the header, with comments left out, and where the pixels begin.
function parse(bytes) {
    const words = [];
    let at = 0;
    while (words.length < 4 && at < bytes.length) {
        const letter = String.fromCharCode(bytes[at]);
        if (letter === "#") {
            while (at < bytes.length && bytes[at] !== 10) at++;
        } else if (/\s/.test(letter)) {
            at++;
        } else {
            let word = "";
            while (at < bytes.length && bytes[at] > 32) word += String.fromCharCode(bytes[at++]);
            words.push(word);
        }
    }
    const [width, height, most] = words.slice(1).map(Number);
    if (words[0] !== "P5" || !(width > 0 && height > 0) || most !== 255)
        throw new Error("the input is no binary PGM with 8 bits");
    const pixels = bytes.subarray(at + 1, at + 1 + width * height);
    if (pixels.length < width * height) throw new Error("the picture ends too soon");
    return { width, height, pixels };
}

function edges({ width, height, pixels }, threshold) {
    const result = new Uint8Array(width * height);
    const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
    for (let y = 0; y < height; y++) {
        const above = clamp(y - 1, height) * width, here = y * width, below = clamp(y + 1, height) * width;
        for (let x = 0; x < width; x++) {
            const left = clamp(x - 1, width), right = clamp(x + 1, width);
            const across = pixels[above + right] + 2 * pixels[here + right] + pixels[below + right]
                - pixels[above + left] - 2 * pixels[here + left] - pixels[below + left];
            const down = pixels[below + left] + 2 * pixels[below + x] + pixels[below + right]
                - pixels[above + left] - 2 * pixels[above + x] - pixels[above + right];
            const strength = Math.min(255, Math.floor(Math.sqrt(across * across + down * down)));
            result[here + x] = threshold === undefined ? strength : strength >= threshold ? 255 : 0;
        }
    }
    return result;
}

const threshold = scriptArgs.length > 1 ? Number(scriptArgs[1]) : undefined;
if (Number.isNaN(threshold)) throw new Error(`${scriptArgs[1]} is no threshold`);
const picture = parse(readAll(std.in));
std.out.puts(`P5\n${picture.width} ${picture.height}\n255\n`);
std.out.write(edges(picture, threshold));
