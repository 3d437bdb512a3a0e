//! Sums the numbers on standard input, and counts those named as arguments.
const std = @import("std");

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const wanted = (try init.minimal.args.toSlice(arena))[1..];

    var in_buffer: [4096]u8 = undefined;
    var in_file: std.Io.File.Reader = .init(.stdin(), init.io, &in_buffer);
    const in = &in_file.interface;

    var sum: i64 = 0;
    var count: usize = 0;
    while (try in.takeDelimiter('\n')) |line| {
        sum += try std.fmt.parseInt(i64, line, 10);
        for (wanted) |name| {
            if (std.mem.eql(u8, name, line)) count += 1;
        }
    }

    var out_buffer: [256]u8 = undefined;
    var out_file: std.Io.File.Writer = .init(.stdout(), init.io, &out_buffer);
    try out_file.interface.print("sum {d}, wanted {d}\n", .{ sum, count });
    try out_file.interface.flush();
}
