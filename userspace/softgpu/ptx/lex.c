// SPDX-License-Identifier: Apache-2.0
/* Tokens of PTX text. The text is untrusted and need not be NUL-terminated. */

#include <stdlib.h>
#include <string.h>

#include "ast.h"

static bool id_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       c == '%';
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

void lex_skip_line(struct parser *p)
{
	while (p->cur < p->end && *p->cur != '\n')
		p->cur++;
}

static void skip_blank(struct parser *p)
{
	while (p->cur < p->end) {
		char c = *p->cur;

		if (c == '\n') {
			p->line++;
			p->cur++;
		} else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '\0') {
			p->cur++;
		} else if (c == '/' && p->end - p->cur > 1 && p->cur[1] == '/') {
			lex_skip_line(p);
		} else if (c == '/' && p->end - p->cur > 1 && p->cur[1] == '*') {
			p->cur += 2;
			while (p->end - p->cur > 1 && !(p->cur[0] == '*' && p->cur[1] == '/')) {
				if (*p->cur == '\n')
					p->line++;
				p->cur++;
			}
			p->cur = p->end - p->cur > 1 ? p->cur + 2 : p->end;
		} else {
			return;
		}
	}
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static const char *radix(struct parser *p, const char *s, unsigned int base, unsigned int max_digits)
{
	uint64_t v = 0;
	unsigned int n = 0;

	for (; s < p->end; s++, n++) {
		int h = hex_value(*s);

		if (h < 0 || (unsigned int)h >= base)
			break;
		if (n >= max_digits)
			ptx_error(p, p->line, 0, "number has too many digits");
		v = v * base + h;
	}
	if (!n)
		ptx_error(p, p->line, 0, "number without digits");
	p->tok.value = v;
	return s;
}

static const char *lex_decimal(struct parser *p, const char *s)
{
	const char *start = s;
	bool is_float = false;
	char buf[64];
	size_t n;

	while (s < p->end && digit(*s))
		s++;
	if (s < p->end && *s == '.' && p->end - s > 1 && digit(s[1])) {
		is_float = true;
		for (s++; s < p->end && digit(*s); s++)
			;
	}
	if (s < p->end && (*s == 'e' || *s == 'E')) {
		const char *e = s + 1;

		if (e < p->end && (*e == '+' || *e == '-'))
			e++;
		if (e < p->end && digit(*e)) {
			is_float = true;
			for (s = e; s < p->end && digit(*s); s++)
				;
		}
	}
	n = s - start;
	if (n >= sizeof(buf))
		ptx_error(p, p->line, 0, "number has too many digits");
	memcpy(buf, start, n);
	buf[n] = 0;
	if (is_float) {
		double d = strtod(buf, NULL);

		p->tok.kind = K_F64;
		memcpy(&p->tok.value, &d, 8);
	} else {
		p->tok.kind = K_INT;
		p->tok.value = strtoull(buf, NULL, buf[0] == '0' ? 8 : 10);
	}
	return s;
}

static void lex_number(struct parser *p)
{
	const char *s = p->cur;
	char c = p->end - s > 1 && s[0] == '0' ? s[1] : 0;

	p->tok.kind = K_INT;
	if (c == 'x' || c == 'X') {
		s = radix(p, s + 2, 16, 16);
	} else if (c == 'b' || c == 'B') {
		s = radix(p, s + 2, 2, 64);
	} else if (c == 'f' || c == 'F') {
		s = radix(p, s + 2, 16, 8);
		p->tok.kind = K_F32;
	} else if (c == 'd' || c == 'D') {
		s = radix(p, s + 2, 16, 16);
		p->tok.kind = K_F64;
	} else {
		s = lex_decimal(p, s);
	}
	if (p->tok.kind == K_INT && s < p->end && (*s == 'U' || *s == 'u')) {
		p->tok.is_unsigned = true;
		s++;
	}
	if (s < p->end && id_char(*s))
		ptx_error(p, p->line, 0, "stray character '%c' after a number", *s);
	p->cur = s;
}

void lex_next(struct parser *p)
{
	const char *s;
	char c;

	skip_blank(p);
	p->tok = (struct tok){ .line = p->line, .s = p->cur };
	if (p->cur >= p->end) {
		p->tok.kind = K_EOF;
		return;
	}
	s = p->cur;
	c = *s;
	if (digit(c)) {
		lex_number(p);
	} else if (id_char(c)) {
		for (p->cur++; p->cur < p->end && id_char(*p->cur); p->cur++)
			;
		p->tok.kind = K_ID;
	} else if (c == '.' && p->end - s > 1 && id_char(s[1])) {
		p->tok.kind = K_DOT;
		for (p->cur++; p->cur < p->end; p->cur++) {
			if (id_char(*p->cur))
				continue;
			/* .shared::cta, .L2::128B */
			if (p->end - p->cur > 2 && p->cur[0] == ':' && p->cur[1] == ':' && id_char(p->cur[2])) {
				p->cur++;
				continue;
			}
			break;
		}
	} else if (c == '"') {
		for (p->cur++; p->cur < p->end && *p->cur != '"' && *p->cur != '\n'; p->cur++)
			if (*p->cur == '\\' && p->end - p->cur > 1 && p->cur[1] != '\n')
				p->cur++;
		if (p->cur >= p->end || *p->cur != '"')
			ptx_error(p, p->line, 0, "string without an end");
		p->cur++;
		p->tok.kind = K_STR;
	} else if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7f) {
		ptx_error(p, p->line, 0, "byte 0x%02x does not belong in PTX text", (unsigned char)c);
	} else {
		p->tok.kind = K_PUNCT;
		p->tok.punct = c;
		p->cur++;
		if ((c == '<' || c == '>') && p->cur < p->end && *p->cur == c) {
			p->tok.punct = c == '<' ? 'L' : 'R';
			p->cur++;
		}
	}
	p->tok.len = p->cur - s;
}

bool tok_is(struct parser *p, char punct)
{
	return p->tok.kind == K_PUNCT && p->tok.punct == punct;
}

bool tok_dot(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	return p->tok.kind == K_DOT && p->tok.len == n + 1 && !memcmp(p->tok.s + 1, word, n);
}

bool tok_take(struct parser *p, char punct)
{
	if (!tok_is(p, punct))
		return false;
	lex_next(p);
	return true;
}

const char *tok_text(struct parser *p, char buf[48])
{
	size_t n = p->tok.len < 40 ? p->tok.len : 40;

	if (p->tok.kind == K_EOF)
		return "the end of the text";
	buf[0] = '\'';
	memcpy(buf + 1, p->tok.s, n);
	buf[n + 1] = '\'';
	buf[n + 2] = 0;
	return buf;
}

void tok_expect(struct parser *p, char punct, const char *where)
{
	char buf[48];

	if (!tok_take(p, punct))
		ptx_error(p, p->tok.line, 0, "'%c' expected %s, found %s", punct, where, tok_text(p, buf));
}

const char *tok_name(struct parser *p, const char *what)
{
	const char *name;
	char buf[48];

	if (p->tok.kind != K_ID)
		ptx_error(p, p->tok.line, 0, "%s expected, found %s", what, tok_text(p, buf));
	name = p_intern(p, p->tok.s, p->tok.len);
	lex_next(p);
	return name;
}
