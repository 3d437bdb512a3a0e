//! Solves sudokus, one a line of 81 characters: digits, and anything else for an empty square.
//!
//!     sudoku < puzzles.txt
//!
//! Prints for each line its solution, "none", or "several" if there is more than one.

const std = @import("std");

/// For each row, column and box the digits that are still free, as bits.
const Board = struct {
    squares: [81]u8 = @splat(0),
    rows: [9]u16 = @splat(0x1ff),
    columns: [9]u16 = @splat(0x1ff),
    boxes: [9]u16 = @splat(0x1ff),

    fn box(at: usize) usize {
        return at / 27 * 3 + at % 9 / 3;
    }

    fn free(board: *const Board, at: usize) u16 {
        return board.rows[at / 9] & board.columns[at % 9] & board.boxes[box(at)];
    }

    fn flip(board: *Board, at: usize, bit: u16) void {
        board.rows[at / 9] ^= bit;
        board.columns[at % 9] ^= bit;
        board.boxes[box(at)] ^= bit;
    }

    /// Count solutions up to two; the first one stays in `found`.
    fn solve(board: *Board, found: *[81]u8) u32 {
        var best: ?usize = null;
        var fewest: u32 = 10;
        for (board.squares, 0..) |digit, at| {
            if (digit != 0) continue;
            const choices = @popCount(board.free(at));
            if (choices < fewest) {
                fewest = choices;
                best = at;
            }
        }
        const at = best orelse {
            found.* = board.squares;
            return 1;
        };
        var solutions: u32 = 0;
        var left = board.free(at);
        while (left != 0 and solutions < 2) : (left &= left - 1) {
            const bit = left & (~left + 1);
            board.squares[at] = @as(u8, @ctz(bit)) + 1;
            board.flip(at, bit);
            var other: [81]u8 = undefined;
            solutions += board.solve(if (solutions == 0) found else &other);
            board.flip(at, bit);
            board.squares[at] = 0;
        }
        return solutions;
    }

    /// Put the line's digits on the board; false if two of them are against the rules.
    fn fill(board: *Board, line: []const u8) bool {
        for (line, 0..) |character, at| {
            if (character < '1' or character > '9') continue;
            const bit = @as(u16, 1) << @intCast(character - '1');
            if (board.free(at) & bit == 0) return false;
            board.squares[at] = character - '0';
            board.flip(at, bit);
        }
        return true;
    }
};

fn answer(line: []const u8, text: *[81]u8) []const u8 {
    if (line.len != 81) return "no sudoku: a line has 81 squares";
    var board: Board = .{};
    if (!board.fill(line)) return "none";
    switch (board.solve(text)) {
        0 => return "none",
        1 => {
            for (text) |*digit| digit.* += '0';
            return text;
        },
        else => return "several",
    }
}

pub fn main(init: std.process.Init) !void {
    var input_buffer: [4096]u8 = undefined;
    var output_buffer: [4096]u8 = undefined;
    var reader = std.Io.File.stdin().reader(init.io, &input_buffer);
    var writer = std.Io.File.stdout().writer(init.io, &output_buffer);
    while (try reader.interface.takeDelimiter('\n')) |line| {
        var text: [81]u8 = undefined;
        try writer.interface.print("{s}\n", .{answer(std.mem.trim(u8, line, " \r\t"), &text)});
    }
    try writer.interface.flush();
}
