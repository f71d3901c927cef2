#!/bin/sh
#PBS -l select=3
#PBS -l place=pack:excl
hostname
