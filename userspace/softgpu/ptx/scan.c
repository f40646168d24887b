// SPDX-License-Identifier: Apache-2.0
/*
 * A first look at a large PTX text: where its functions begin and end, without reading what is in them. The rest of
 * the text, in pieces between functions, is what every function needs: version, target, variables, declarations.
 */
#include <string.h>

#include "lazy.h"

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       c == '%' || c == '.';
}

struct cursor {
	const char *p, *end;
	uint32_t line;
};

/* Past a comment or a string that begins here. @return false if none does. */
static bool skip_special(struct cursor *c)
{
	const char *p = c->p;

	if (*p == '/' && c->end - p > 1 && p[1] == '/') {
		p = memchr(p, '\n', c->end - p);
		c->p = p ? p : c->end;
		return true;
	}
	if (*p == '/' && c->end - p > 1 && p[1] == '*') {
		for (p += 2; c->end - p > 1 && !(p[0] == '*' && p[1] == '/'); p++)
			c->line += *p == '\n';
		c->p = c->end - p > 1 ? p + 2 : c->end;
		return true;
	}
	if (*p == '"') {
		for (p++; p < c->end && *p != '"' && *p != '\n'; p++)
			if (*p == '\\' && c->end - p > 1)
				p++;
		c->p = p < c->end ? p + 1 : c->end;
		return true;
	}
	return false;
}

/* From a '{' to behind its '}'. @return false if the text ends before. */
static bool skip_block(struct cursor *c)
{
	uint32_t depth = 0;

	while (c->p < c->end) {
		char ch = *c->p;

		if (ch == '\n') {
			c->line++;
		} else if (ch == '{') {
			depth++;
		} else if (ch == '}') {
			if (!--depth) {
				c->p++;
				return true;
			}
		} else if ((ch == '/' || ch == '"') && skip_special(c)) {
			continue;
		}
		c->p++;
	}
	return false;
}

static bool starts(const struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(c->end - c->p) > n && !memcmp(c->p, word, n) && !word_char(c->p[n]);
}

/* The name behind .entry or .func: the first word that is no directive and not in the brackets of results. */
static void function_name(const char *p, const char *end, const char **name, size_t *len)
{
	int depth = 0;

	*len = 0;
	for (; p < end; p++) {
		const char *s = p;

		if (*p == '(')
			depth++;
		else if (*p == ')')
			depth--;
		if (depth || !word_char(*p))
			continue;
		while (p < end && word_char(*p))
			p++;
		if (*s != '.') {
			*name = s;
			*len = p - s;
			return;
		}
		p--;
	}
}

/* One item: up to its ';' or the end of its block. Lines without either end with the line. */
static bool scan_item(struct cursor *c, struct piece *out)
{
	const char *keyword = NULL;
	bool section = false;
	int brackets = 0;

	*out = (struct piece){ .start = c->p, .line = c->line };
	if (starts(c, ".version") || starts(c, ".target") || starts(c, ".address_size") || starts(c, ".file") ||
	    starts(c, ".loc") || *c->p == '@') {
		const char *nl = memchr(c->p, '\n', c->end - c->p);

		c->p = nl ? nl : c->end;
		out->end = c->p;
		return true;
	}
	if (starts(c, ".section"))
		section = true;
	while (c->p < c->end) {
		char ch = *c->p;

		if (ch == '\n') {
			c->line++;
		} else if (ch == '(') {
			brackets++;
		} else if (ch == ')') {
			brackets--;
		} else if (ch == ';') {
			out->end = ++c->p;
			return true;
		} else if (ch == '.' && !brackets && !keyword && !section &&
			   (starts(c, ".entry") || starts(c, ".func"))) {
			keyword = c->p;
			out->entry = c->p[1] == 'e';
			c->p += out->entry ? 6 : 5;
			continue;
		} else if (ch == '{') {
			const char *block = c->p;

			if (!skip_block(c))
				return false;
			if (keyword) {
				function_name(keyword + (out->entry ? 6 : 5), block, &out->name, &out->name_len);
				out->body = block;
				out->end = c->p;
				return out->name_len != 0;
			}
			if (section) {
				out->end = c->p;
				return true;
			}
			continue;
		} else if ((ch == '/' || ch == '"') && skip_special(c)) {
			continue;
		}
		c->p++;
	}
	return false;
}

static void skip_blank(struct cursor *c)
{
	while (c->p < c->end) {
		char ch = *c->p;

		if (ch == '/' && skip_special(c))
			continue;
		if (ch && ch != ' ' && ch != '\t' && ch != '\r' && ch != '\n')
			return;
		c->line += ch == '\n';
		c->p++;
	}
}

struct piece *scan_pieces(struct arena *arena, const char *text, size_t len, uint32_t *count)
{
	struct cursor c = { text, text + len, 1 };
	struct piece *list = NULL, item;
	uint32_t n = 0, cap = 0;

	for (;;) {
		skip_blank(&c);
		if (c.p >= c.end)
			break;
		if (!scan_item(&c, &item))
			return NULL;
		/* texts between functions become one piece */
		if (n && !item.body && !list[n - 1].body) {
			list[n - 1].end = item.end;
			continue;
		}
		if (n == cap) {
			struct piece *more = arena_alloc(arena, (cap ? cap * 2 : 64) * sizeof(*more));

			if (!more)
				return NULL;
			if (n)
				memcpy(more, list, n * sizeof(*more));
			list = more;
			cap = cap ? cap * 2 : 64;
		}
		list[n++] = item;
	}
	*count = n;
	return list;
}

/* Is @name in @p as a word of its own? */
bool scan_word(const char *p, const char *end, const char *name, size_t len)
{
	const char *hit;

	for (; p < end && (hit = memmem(p, end - p, name, len)); p = hit + len)
		if ((hit + len == end || !word_char(hit[len])) && !word_char(hit[-1]))
			return true;
	return false;
}
