// Renders one tile of a ray-traced picture.
//
//   render X0 Y0 WIDTH HEIGHT IMAGE_WIDTH IMAGE_HEIGHT < scene.txt > tile.rgb
//
// The tile is WIDTH x HEIGHT pixels with its upper left corner at (X0, Y0) of the whole image, and
// is written as rows of three bytes (red, green, blue) a pixel. The scene is read from the file
// scene.txt if there is one, and from standard input otherwise; scene.txt explains the format.
//
// Every pixel depends on its place in the whole image alone, so that tiles rendered apart fit
// together, and any machine renders the same bytes. No function of the C library rounds anything:
// only + - * / and the square root are used, which WebAssembly defines to the last bit.

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { MOST_SPHERES = 128, MOST_SCENE = 1 << 16, MOST_SIDE = 8192, MOST_SAMPLES = 16 };

static const double FAR = 1e30;
static const double NEAR = 1e-6;

typedef struct { double x, y, z; } Vec;

typedef struct { Vec centre; double radius; Vec colour; double mirror, gloss; } Sphere;

typedef struct {
    Vec eye, right, up, forward;        // the camera; right and up span the image
    Vec horizon, zenith;                // colours of the sky
    Vec lamp, lamp_colour; double lamp_radius;
    Vec tile_a, tile_b; double ground, tile_size, ground_mirror;
    double fog;                         // share of the sky mixed in over one unit of distance
    int samples, shadows, bounces;      // samples: per side of a pixel
    int spheres; Sphere sphere[MOST_SPHERES];
} Scene;

typedef struct { double distance; Vec point, normal, colour; double mirror, gloss; } Hit;

static Scene scene;

// Numbers and vectors

static double root(double value) { return __builtin_sqrt(value); }
static double least(double a, double b) { return a < b ? a : b; }
static double most(double a, double b) { return a > b ? a : b; }
static Vec vec(double x, double y, double z) { return (Vec){x, y, z}; }
static Vec add(Vec a, Vec b) { return vec(a.x + b.x, a.y + b.y, a.z + b.z); }
static Vec sub(Vec a, Vec b) { return vec(a.x - b.x, a.y - b.y, a.z - b.z); }
static Vec scale(Vec a, double s) { return vec(a.x * s, a.y * s, a.z * s); }
static Vec tint(Vec a, Vec b) { return vec(a.x * b.x, a.y * b.y, a.z * b.z); }
static double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static Vec unit(Vec a) { return scale(a, 1 / root(dot(a, a))); }
static Vec mix(Vec a, Vec b, double share) { return add(scale(a, 1 - share), scale(b, share)); }
static Vec cross(Vec a, Vec b) {
    return vec(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

static double raised(double base, int doublings) {
    for (int i = 0; i < doublings; i++) base *= base;
    return base;
}

// A number in [0, 1) that looks random, the same for the same state.
static double noise(uint32_t *state) {
    uint32_t word = *state = *state * 747796405u + 2891336453u;
    word = ((word >> ((word >> 28) + 4)) ^ word) * 277803737u;
    return ((word >> 22) ^ word) / 4294967296.0;
}

// What a ray meets

static Vec sky(Vec direction) {
    double height = most(direction.y, 0);
    Vec colour = mix(scene.horizon, scene.zenith, root(height));
    double glow = most(dot(direction, unit(sub(scene.lamp, scene.eye))), 0);
    return add(colour, scale(scene.lamp_colour, 0.25 * raised(glow, 5) + 0.9 * raised(glow, 10)));
}

static double meet_sphere(const Sphere *sphere, Vec from, Vec direction) {
    Vec to = sub(sphere->centre, from);
    double along = dot(to, direction);
    double inside = sphere->radius * sphere->radius - (dot(to, to) - along * along);
    if (inside < 0) return FAR;
    double half = root(inside);
    if (along - half > NEAR) return along - half;
    return along + half > NEAR ? along + half : FAR;
}

static double meet_ground(Vec from, Vec direction) {
    if (direction.y > -NEAR) return FAR;
    double distance = (scene.ground - from.y) / direction.y;
    return distance > NEAR ? distance : FAR;
}

static int whole(double value) {
    int cut = (int)value;
    return cut > value ? cut - 1 : cut;
}

static int meet(Vec from, Vec direction, Hit *hit) {
    int nearest = -1;
    hit->distance = meet_ground(from, direction);
    for (int i = 0; i < scene.spheres; i++) {
        double distance = meet_sphere(&scene.sphere[i], from, direction);
        if (distance < hit->distance) { hit->distance = distance; nearest = i; }
    }
    if (hit->distance > 1e4) return 0;
    hit->point = add(from, scale(direction, hit->distance));
    if (nearest >= 0) {
        const Sphere *sphere = &scene.sphere[nearest];
        hit->normal = scale(sub(hit->point, sphere->centre), 1 / sphere->radius);
        hit->colour = sphere->colour;
        hit->mirror = sphere->mirror;
        hit->gloss = sphere->gloss;
    } else {
        int column = whole(hit->point.x / scene.tile_size);
        int row = whole(hit->point.z / scene.tile_size);
        hit->normal = vec(0, 1, 0);
        hit->colour = (column + row) & 1 ? scene.tile_a : scene.tile_b;
        hit->mirror = scene.ground_mirror;
        hit->gloss = 0.1;
    }
    hit->point = add(hit->point, scale(hit->normal, 1e-5));
    return 1;
}

// The share of the lamp that is seen from a point.
static double lit(Vec point, uint32_t *state) {
    int seen = 0;
    for (int i = 0; i < scene.shadows; i++) {
        Vec offset;
        do {
            offset = vec(noise(state) * 2 - 1, noise(state) * 2 - 1, noise(state) * 2 - 1);
        } while (dot(offset, offset) > 1);
        Vec to = sub(add(scene.lamp, scale(offset, scene.lamp_radius)), point);
        double distance = root(dot(to, to));
        Vec direction = scale(to, 1 / distance);
        int free = 1;
        for (int k = 0; k < scene.spheres && free; k++)
            free = meet_sphere(&scene.sphere[k], point, direction) > distance;
        seen += free;
    }
    return (double)seen / scene.shadows;
}

// How open the surroundings are above a point: spheres close by darken it.
static double openness(const Hit *hit) {
    double open = 1;
    for (int i = 0; i < scene.spheres; i++) {
        Vec to = sub(scene.sphere[i].centre, hit->point);
        double distance = root(dot(to, to)), ratio = scene.sphere[i].radius / distance;
        double facing = dot(hit->normal, to) / distance;
        if (facing > 0 && ratio < 1) open *= 1 - facing * ratio * ratio;
    }
    return open;
}

static Vec trace(Vec from, Vec direction, uint32_t *state) {
    Vec light = vec(0, 0, 0), share = vec(1, 1, 1);
    for (int bounce = 0; bounce <= scene.bounces; bounce++) {
        Hit hit;
        if (!meet(from, direction, &hit)) return add(light, tint(share, sky(direction)));
        Vec to_lamp = unit(sub(scene.lamp, hit.point));
        Vec ambient = scale(mix(scene.horizon, scene.zenith, 0.5 + 0.5 * hit.normal.y),
                            0.42 * openness(&hit));
        double facing = dot(hit.normal, to_lamp);
        double direct = facing > 0 ? lit(hit.point, state) : 0;
        Vec shine = scale(scene.lamp_colour, direct * most(facing, 0));
        Vec surface = tint(hit.colour, add(ambient, shine));
        Vec halfway = unit(sub(to_lamp, direction));
        double spot = raised(most(dot(halfway, hit.normal), 0), 7);
        surface = add(surface, scale(scene.lamp_colour, hit.gloss * direct * spot * 2));

        // Schlick: everything mirrors at a grazing angle.
        double grazing = 1 - most(-dot(direction, hit.normal), 0);
        double square = grazing * grazing;
        double mirror = hit.mirror + (1 - hit.mirror) * hit.gloss * square * square * grazing;
        double reach = scene.fog * hit.distance, haze = 1 - 1 / (1 + reach * reach);
        Vec air = scale(tint(share, mix(scene.horizon, scene.zenith, 0.15)), haze);
        share = scale(share, 1 - haze);
        light = add(light, add(air, scale(tint(share, surface), 1 - mirror)));
        share = scale(mix(share, tint(share, hit.colour), 0.35), mirror);
        if (share.x + share.y + share.z < 0.01) return light;
        from = hit.point;
        direction = sub(direction, scale(hit.normal, 2 * dot(direction, hit.normal)));
    }
    return light;
}

// The image

static uint8_t level(double light) {
    double soft = light / (1 + 0.22 * light);           // bright spots do not burn out
    return (uint8_t)(root(least(most(soft, 0), 1)) * 255 + 0.5);
}

static void render_pixel(int x, int y, int width, int height, uint8_t *out) {
    Vec light = vec(0, 0, 0);
    int side = scene.samples;
    uint32_t state = (uint32_t)(y * width + x) * 2654435761u + 1;
    for (int i = 0; i < side * side; i++) {
        double across = (x + (i % side + noise(&state)) / side) / width - 0.5;
        double down = 0.5 - (y + (i / side + noise(&state)) / side) / height;
        Vec direction = add(scene.forward, scale(scene.right, across * width / height));
        direction = unit(add(direction, scale(scene.up, down)));
        light = add(light, trace(scene.eye, direction, &state));
    }
    light = scale(light, 1.0 / (side * side));
    out[0] = level(light.x);
    out[1] = level(light.y);
    out[2] = level(light.z);
}

// The scene's text

static void say(const char *text) { (void)write(2, text, strlen(text)); }

static _Noreturn void fail(const char *text) {
    say("render: ");
    say(text);
    say("\n");
    _exit(2);
}

static _Noreturn void fail_at(const char *text, int line) {
    char digits[12];
    int at = sizeof digits;
    digits[--at] = 0;
    do { digits[--at] = (char)('0' + line % 10); line /= 10; } while (line);
    say("render: line ");
    say(digits + at);
    say(" of the scene: ");
    say(text);
    say("\n");
    _exit(2);
}

static const char *skip(const char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\r') at++;
    return at;
}

static const char *read_number(const char *at, double *value) {
    double sign = 1, total = 0, place = 1;
    at = skip(at);
    if (*at == '-') { sign = -1; at++; }
    const char *first = at;
    for (; *at >= '0' && *at <= '9'; at++) total = total * 10 + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++) total += (*at - '0') * (place /= 10);
    if (at == first) return 0;
    *value = sign * total;
    return at;
}

static Vec take(const double *numbers) { return vec(numbers[0], numbers[1], numbers[2]); }

static void set_camera(const double *n) {
    scene.eye = take(n);
    scene.forward = unit(sub(take(n + 3), scene.eye));
    scene.right = scale(unit(cross(vec(0, 1, 0), scene.forward)), n[6]);
    scene.up = scale(unit(cross(scene.forward, scene.right)), n[6]);
}

static void read_line(const char *word, int length, const double *n, int count, int line) {
    struct { const char *name; int count; } forms[] = {
        {"camera", 7}, {"sky", 6}, {"lamp", 7}, {"ground", 9}, {"fog", 1}, {"quality", 3},
        {"sphere", 9},
    };
    int form = -1;
    for (int i = 0; i < 7; i++)
        if ((int)strlen(forms[i].name) == length && !memcmp(forms[i].name, word, length)) form = i;
    if (form < 0) fail_at("it begins with no word that is known", line);
    if (count != forms[form].count) fail_at("it has too few numbers, or too many", line);
    switch (form) {
    case 0: set_camera(n); break;
    case 1: scene.horizon = take(n); scene.zenith = take(n + 3); break;
    case 2: scene.lamp = take(n); scene.lamp_radius = n[3]; scene.lamp_colour = take(n + 4); break;
    case 3:
        scene.ground = n[0]; scene.tile_size = n[1]; scene.ground_mirror = n[2];
        scene.tile_a = take(n + 3); scene.tile_b = take(n + 6);
        if (scene.tile_size <= 0) fail_at("tiles need a size", line);
        break;
    case 4: scene.fog = n[0]; break;
    case 5:
        for (int i = 0; i < 3; i++)
            if (n[i] < 1 || n[i] > MOST_SAMPLES) fail_at("each quality is from 1 to 16", line);
        scene.samples = (int)n[0]; scene.shadows = (int)n[1]; scene.bounces = (int)n[2];
        break;
    case 6:
        if (scene.spheres == MOST_SPHERES) fail_at("there are more than 128 spheres", line);
        if (n[3] <= 0) fail_at("a sphere needs a radius", line);
        scene.sphere[scene.spheres++] = (Sphere){take(n), n[3], take(n + 4), n[7], n[8]};
    }
}

static void read_scene(const char *at) {
    scene.samples = 2; scene.shadows = 4; scene.bounces = 4; scene.tile_size = 1;
    set_camera((double[]){0, 1, -5, 0, 1, 0, 1});
    for (int line = 1; *at; line++) {
        double numbers[16];
        int count = 0;
        const char *word = at = skip(at);
        while (*at && *at != ' ' && *at != '\t' && *at != '\r' && *at != '\n') at++;
        int length = (int)(at - word);
        if (length && *word != '#') {
            for (at = skip(at); *at && *at != '\n' && *at != '#'; at = skip(at)) {
                if (count == 16) fail_at("it has too many numbers", line);
                at = read_number(at, &numbers[count++]);
                if (!at) fail_at("something in it is no number", line);
            }
            read_line(word, length, numbers, count, line);
        }
        while (*at && *at != '\n') at++;
        if (*at) at++;
    }
}

static void load_scene(void) {
    static char text[MOST_SCENE + 1];
    int from = open("scene.txt", O_RDONLY);
    if (from < 0) from = 0;
    int size = 0;
    for (;;) {
        int got = (int)read(from, text + size, MOST_SCENE - size);
        if (got < 0) fail("the scene cannot be read");
        if (got == 0) break;
        size += got;
        if (size == MOST_SCENE) fail("the scene is longer than 64 KiB");
    }
    if (size == 0) fail("there is no scene: give it as the file scene.txt, or as standard input");
    read_scene(text);
}

static int read_argument(const char *text, int lowest) {
    int value = 0;
    for (; *text >= '0' && *text <= '9' && value <= MOST_SIDE; text++)
        value = value * 10 + (*text - '0');
    if (*text || value < lowest || value > MOST_SIDE)
        fail("a place or size is no whole number up to 8192");
    return value;
}

int main(int argc, char **argv) {
    if (argc != 7) fail("usage: render X0 Y0 WIDTH HEIGHT IMAGE_WIDTH IMAGE_HEIGHT < scene.txt");
    int place[6];
    for (int i = 0; i < 6; i++) place[i] = read_argument(argv[i + 1], i >= 2);
    if (place[0] + place[2] > place[4] || place[1] + place[3] > place[5])
        fail("the tile lies outside the image");
    load_scene();
    static uint8_t row[3 * MOST_SIDE];
    for (int y = place[1]; y < place[1] + place[3]; y++) {
        for (int x = 0; x < place[2]; x++)
            render_pixel(place[0] + x, y, place[4], place[5], row + 3 * x);
        int size = 3 * place[2];
        for (int at = 0; at < size;) {
            int put = (int)write(1, row + at, size - at);
            if (put <= 0) fail("the tile cannot be written");
            at += put;
        }
    }
    return 0;
}
