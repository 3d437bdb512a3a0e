// Counts the k-mers of DNA sequences, each together with its reverse complement.
//
//     kmers K TOP < sequences.fasta
//
// Prints the TOP most frequent words of K letters (1 to 31), ties in alphabetical order, and then how
// many words and how many different ones there are. Letters other than A, C, G, T end a word.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Word = std::uint64_t;  // two bits for each letter

int code(int letter)
{
    switch (letter) {
    case 'A': case 'a': return 0;
    case 'C': case 'c': return 1;
    case 'G': case 'g': return 2;
    case 'T': case 't': return 3;
    default: return -1;
    }
}

std::string text(Word word, int k)
{
    std::string letters(k, ' ');
    for (int i = k; i-- > 0; word >>= 2)
        letters[i] = "ACGT"[word & 3];
    return letters;
}

class Counter {
public:
    explicit Counter(int k) : k_(k), mask_((Word(1) << 2 * k) - 1) {}

    void letter(int value)
    {
        forward_ = (forward_ << 2 | Word(value)) & mask_;
        backward_ = backward_ >> 2 | Word(3 - value) << 2 * (k_ - 1);
        if (++length_ >= k_)
            ++counts_[std::min(forward_, backward_)];
    }

    void interrupt() { length_ = 0; }

    const std::unordered_map<Word, std::uint64_t>& counts() const { return counts_; }

private:
    int k_;
    int length_ = 0;
    Word mask_, forward_ = 0, backward_ = 0;
    std::unordered_map<Word, std::uint64_t> counts_;
};

void read(std::FILE* file, Counter& counter)
{
    bool header = false, fresh = true;
    for (int letter; (letter = std::getc(file)) != EOF;) {
        if (letter == '\n' || letter == '\r') {
            header = false;
            fresh = true;
            continue;
        }
        if (fresh && letter == '>') {
            header = true;
            counter.interrupt();
        }
        fresh = false;
        if (header)
            continue;
        int value = code(letter);
        if (value < 0)
            counter.interrupt();
        else
            counter.letter(value);
    }
}

}  // namespace

int main(int count, char** arguments)
{
    int k = count == 3 ? std::atoi(arguments[1]) : 0;
    int top = count == 3 ? std::atoi(arguments[2]) : 0;
    if (k < 1 || k > 31 || top < 1) {
        std::fputs("usage: kmers K TOP < sequences.fasta, with K from 1 to 31\n", stderr);
        return 2;
    }
    Counter counter(k);
    read(stdin, counter);
    std::vector<std::pair<Word, std::uint64_t>> words(counter.counts().begin(), counter.counts().end());
    std::uint64_t total = 0;
    for (const auto& [word, times] : words)
        total += times;
    std::sort(words.begin(), words.end(), [](const auto& a, const auto& b) {
        return a.second != b.second ? a.second > b.second : a.first < b.first;
    });
    for (std::size_t i = 0; i < words.size() && i < std::size_t(top); ++i)
        std::printf("%s %llu\n", text(words[i].first, k).c_str(),
                    static_cast<unsigned long long>(words[i].second));
    std::printf("%llu words, %zu different\n", static_cast<unsigned long long>(total), words.size());
    return 0;
}
