// The function hash: answers with the SHA-256 of its event, in hexadecimal.
//
// Without a C library the module has a good kilobyte. It asks for two functions of WASI. Build it with clang 14 or newer
// and its linker for WebAssembly (Debian: clang, lld):
//
//	clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--strip-all -o ../hash.wasm hash.c

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

struct io {
	u8 *at;
	unsigned long size;
};

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_read")))
int fd_read(int fd, struct io *to, int n, unsigned long *done);

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write")))
int fd_write(int fd, struct io *from, int n, unsigned long *done);

enum { BLOCK = 64, BUFFER = 1 << 16 };

// The first 32 bits of the fractions of the cube roots of the first 64 primes.
static const u32 K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static u32 state[8] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static u8 buffer[BUFFER + 2 * BLOCK];

static u32 right(u32 x, int n) { return x >> n | x << (32 - n); }

static void compress(const u8 *p) {
	u32 w[64], a = state[0], b = state[1], c = state[2], d = state[3];
	u32 e = state[4], f = state[5], g = state[6], h = state[7];
	for (int i = 0; i < 16; i++) w[i] = (u32)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		u32 s0 = right(w[i - 15], 7) ^ right(w[i - 15], 18) ^ w[i - 15] >> 3;
		u32 s1 = right(w[i - 2], 17) ^ right(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	for (int i = 0; i < 64; i++) {
		u32 t1 = h + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
		u32 t2 = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
		h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// fill reads until the buffer holds BUFFER bytes or the event has ended.
static unsigned long fill(void) {
	unsigned long have = 0, n;
	do {
		struct io to = {buffer + have, BUFFER - have};
		n = 0;
		if (fd_read(0, &to, 1, &n)) __builtin_trap();
		have += n;
	} while (n > 0 && have < BUFFER);
	return have;
}

void _start(void) {
	u64 total = 0;
	unsigned long have;
	do {
		have = fill();
		total += have;
		for (unsigned long i = 0; i + BLOCK <= have; i += BLOCK) compress(buffer + i);
	} while (have == BUFFER);

	// What is left of the last block, a one, zeros, and the length in bits.
	u8 *rest = buffer + have / BLOCK * BLOCK;
	unsigned long n = have % BLOCK, end = n < 56 ? BLOCK : 2 * BLOCK;
	rest[n++] = 0x80;
	while (n < end - 8) rest[n++] = 0;
	for (int i = 0; i < 8; i++) rest[n++] = (u8)(total * 8 >> (56 - 8 * i));
	for (unsigned long i = 0; i < end; i += BLOCK) compress(rest + i);

	for (int i = 0; i < 64; i++) buffer[i] = "0123456789abcdef"[state[i / 8] >> (28 - i % 8 * 4) & 15];
	struct io from = {buffer, 64};
	unsigned long written;
	if (fd_write(1, &from, 1, &written)) __builtin_trap();
}
