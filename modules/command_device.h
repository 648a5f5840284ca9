/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The device of a hostile module, /dev/NAME with the module's own name: each write is a command, one at a time; what the module says is read from it.
 *
 * A module includes this once, calls say(), defines command(), and registers the device when it is ready:
 *
 *   static int command(char *line)                   0, or a negative errno that the write fails with; one_at_a_time is held, so it may sleep
 *   COMMAND_DEVICE(said_read);                       or a reader of its own, which may say something first
 *   misc_register(&device)                           in its module_init
 *
 * Nothing is said any more where `said` is full. Who reads while another process commands may see half of a line.
 */
#ifndef COMMAND_DEVICE_H
#define COMMAND_DEVICE_H

#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>

#define LINE_BYTES 160

static DEFINE_MUTEX(one_at_a_time);
static char said[1 << 16];
static size_t said_length;

#define say(format, ...) \
	(said_length += scnprintf(said + said_length, sizeof(said) - said_length, KBUILD_MODNAME ": " format "\n", ##__VA_ARGS__))

static int command(char *line);

static ssize_t command_write(struct file *file, const char __user *text, size_t size, loff_t *at)
{
	char line[LINE_BYTES];
	int failed;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, size))
		return -EFAULT;
	line[size] = 0;
	mutex_lock(&one_at_a_time);
	failed = command(line);
	mutex_unlock(&one_at_a_time);
	return failed ? failed : size;
}

static ssize_t said_read(struct file *file, char __user *text, size_t size, loff_t *at)
{
	return simple_read_from_buffer(text, size, at, said, said_length);
}

#define COMMAND_DEVICE(reader) \
	static const struct file_operations operations = { .owner = THIS_MODULE, .write = command_write, .read = reader }; \
	static struct miscdevice device = { .minor = MISC_DYNAMIC_MINOR, .name = KBUILD_MODNAME, .fops = &operations }

#endif
