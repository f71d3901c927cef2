#!/bin/sh
#PBS -a 3112312359.59
echo the last second of 2031
